"""Verification: do two runs agree, and where do they first part."""
