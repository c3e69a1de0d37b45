"""Price service: a separate program that the shop calls over HTTP."""
