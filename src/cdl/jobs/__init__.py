"""what runs: code + inputs + parameters + environment -> outputs."""
