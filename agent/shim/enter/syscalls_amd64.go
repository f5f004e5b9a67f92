package enter

// System calls that package syscall has no numbers of.
const (
	sysSetns      = 308
	sysSeccomp    = 317
	sysCloseRange = 436
)
