"""The modelled hub and device: pure functions on values that can be remembered, compared and explored."""
