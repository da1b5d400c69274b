// A service.
