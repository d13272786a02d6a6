"""Who writes synthetic rows: a grammar, a model on this machine, an endpoint, or transcripts of what one of them wrote before."""
