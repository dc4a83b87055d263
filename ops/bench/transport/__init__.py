"""`antiphon bench transport`: what a step's round trip costs beside the bare clients' echoes."""
