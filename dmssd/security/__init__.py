"""Who is who, who belongs, and what nobody else may read: identity, certificates, tokens, sessions, admission.

Read :mod:`dmssd.security.sessions` first; :mod:`dmssd.security.certificate` says what membership is.
"""
