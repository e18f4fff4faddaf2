"""The values: YAML files that Hydra finds as `pkg://safeplan.configs` (it needs this to be a package)."""
