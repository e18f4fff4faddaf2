"""Certificates: what finite samples prove about a risk, and which samples may."""
