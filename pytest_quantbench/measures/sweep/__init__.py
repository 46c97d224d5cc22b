"""T1 in full: decoding by batch and by depth, prefill by length, prompts at a temperature, requests at once."""
