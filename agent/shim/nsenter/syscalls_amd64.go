package nsenter

// System calls that package syscall has no numbers of.
const (
	sysSetns      = 308
	sysSeccomp    = 317
	sysCloseRange = 436
	// Equal everywhere, as all of its age.
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysOpenat2      = 437
	sysMountSetattr = 442
)
