"""The services as child processes on one machine: plan, supervision, observation, display, orderly end."""
