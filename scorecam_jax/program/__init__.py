"""Run and analyse traced programs, for both adapters and engine."""
