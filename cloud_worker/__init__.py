"""The cloud's side: session table, scheduler, engine, placement and drain."""
