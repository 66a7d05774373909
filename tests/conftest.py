"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A slow machine is no failure: no example is timed.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
