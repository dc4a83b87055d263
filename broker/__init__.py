"""Everything MQTT: transport, presence, the embedded broker, Mosquitto's configuration."""
