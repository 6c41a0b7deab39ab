"""An application behind the gateway: every upstream event of the five contracts, served over HTTP."""
