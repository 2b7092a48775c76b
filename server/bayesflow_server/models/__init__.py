"""Chat models: the port and one adapter a provider."""
