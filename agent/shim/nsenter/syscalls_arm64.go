package nsenter

// System calls that package syscall has no numbers for.
const (
	sysSetns      = 268
	sysSeccomp    = 277
	sysCloseRange = 436
	// Newer calls have the same number everywhere.
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysOpenat2      = 437
	sysMountSetattr = 442
)
