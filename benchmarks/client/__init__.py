"""The load generator: processes that send requests on time and record what comes back."""
