"""How far a run is, shown."""
