"""Unity players, spoken to in the ML-Agents protocol."""
