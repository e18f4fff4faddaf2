"""Densities that were learned: flow maps from trajectories, conditional densities from recordings."""
