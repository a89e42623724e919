"""How good a model is, measured through the same front door that users take."""
