package setpriv

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
)

// takeIdentity sets capabilities, groups and user of this thread, in an order in
// which each step is still permitted.
func takeIdentity(spec *Spec) error {
	if spec.Bound {
		if err := bound(spec.Capabilities); err != nil {
			return err
		}
	}
	if spec.SwitchUser {
		if err := switchUser(spec); err != nil {
			return err
		}
	}
	// As in Docker: without file capabilities only user 0 has any.
	effective := capability.Set(0)
	if spec.UID == 0 {
		effective = spec.Capabilities
	}
	return capability.Apply(effective)
}

func switchUser(spec *Spec) error {
	groups := make([]int, len(spec.Groups))
	for i, gid := range spec.Groups {
		groups[i] = int(gid)
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := unix.Setresgid(int(spec.GID), int(spec.GID), int(spec.GID)); err != nil {
		return fmt.Errorf("set group %d: %w", spec.GID, err)
	}
	if err := unix.Setresuid(int(spec.UID), int(spec.UID), int(spec.UID)); err != nil {
		return fmt.Errorf("set user %d: %w", spec.UID, err)
	}
	return nil
}

// bound removes every capability outside set from the bounding set.
func bound(set capability.Set) error {
	held, err := capability.Bounding()
	if err != nil {
		return err
	}
	for number := range 64 {
		if held.Has(number) && !set.Has(number) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil {
				return fmt.Errorf("take a capability out of the bounding set: %w", err)
			}
		}
	}
	return nil
}
