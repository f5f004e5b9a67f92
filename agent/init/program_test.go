package containerinit

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/capability"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestCapabilitiesRequestedByNameMustBeGrantedAndAllAreThoseThereAre(t *testing.T) {
	bounding := capability.DockerDefault | 1<<unix.CAP_NET_ADMIN
	l := newLauncher(&powers{bounding: bounding}, nil, nil)
	for _, privileged := range []bool{false, true} {
		spec := &agentv1.ProcessSpec{
			Args:         []string{"true"},
			Capabilities: []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
			Privileged:   privileged,
		}
		defaults, err := l.mainDefaults(spec)
		if !privileged {
			assert.Check(t, is.ErrorContains(err, "does not grant CAP_SYS_ADMIN"), "by name")
			continue
		}
		assert.NilError(t, err)
		if got := defaults.capabilities.Names(); !slices.Equal(got, []string{"CAP_CHOWN", "CAP_NET_ADMIN"}) {
			t.Errorf("all: %v", got)
		}
	}
}
