package containerinit

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/init/setpriv"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// resourceLimits maps Docker's `--ulimit` names to the kernel's numbers.
var resourceLimits = map[string]int{
	"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
	"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
	"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
	"stack": unix.RLIMIT_STACK,
}

// limitsOf resolves the names of limits.
func limitsOf(wanted []*agentv1.ResourceLimit) ([]setpriv.Limit, error) {
	var limits []setpriv.Limit
	for _, limit := range wanted {
		resource, known := resourceLimits[strings.ToLower(limit.Name)]
		if !known {
			return nil, fmt.Errorf("invalid ulimit type: %s", limit.Name)
		}
		if limit.Soft > limit.Hard {
			return nil, fmt.Errorf("ulimit soft limit must be less than or equal to hard limit: %d > %d", limit.Soft, limit.Hard)
		}
		limits = append(limits, setpriv.Limit{Name: limit.Name, Resource: resource, Soft: limit.Soft, Hard: limit.Hard})
	}
	return limits, nil
}
