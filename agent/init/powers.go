package containerinit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/core/identity"
)

// powers are the privileges that the platform grants this agent.
type powers struct {
	uid, gid  uint32
	groups    []uint32
	effective capability.Set
	bounding  capability.Set
	pidOne    bool
}

func ownPowers() (*powers, error) {
	p := &powers{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), pidOne: os.Getpid() == 1}
	var err error
	if p.effective, err = capability.Effective(); err != nil {
		return nil, err
	}
	if p.bounding, err = capability.Bounding(); err != nil {
		return nil, err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("read own groups: %w", err)
	}
	for _, gid := range groups {
		p.groups = append(p.groups, uint32(gid))
	}
	return p, nil
}

// errNotPIDOne prevents mistaking another container's files for this one's.
var errNotPIDOne = errors.New("not PID 1: the files may be another's")

// limitations lists, for users, what the agent cannot do without privileges.
func (p *powers) limitations() []string {
	why := "not root"
	if p.uid == 0 {
		why = "the platform withholds the capability"
	}
	var list []string
	for _, power := range []struct {
		held    bool
		without string
	}{
		{p.canSwitchUsers(), "cannot switch users: processes run as user %d"},
		{p.effective.Has(unix.CAP_SETPCAP), "cannot take capabilities away from processes"},
		{p.effective.Has(unix.CAP_CHOWN), "cannot change owners: unpacked files belong to user %d"},
		{p.effective.Has(unix.CAP_MKNOD), "cannot make devices when it unpacks archives"},
		{p.effective.Has(unix.CAP_DAC_OVERRIDE), "cannot read or write files that user %d may not"},
		{p.effective.Has(unix.CAP_KILL) || !p.canSwitchUsers(), "cannot signal processes of other users"},
	} {
		if power.held {
			continue
		}
		text := power.without
		if strings.Contains(text, "%d") {
			text = fmt.Sprintf(text, p.uid)
		}
		list = append(list, text+" ("+why+")")
	}
	if missing := capability.DockerDefault &^ p.bounding; missing != 0 {
		list = append(list, "cannot give processes "+strings.Join(missing.Names(), ", ")+" (the platform withholds them)")
	}
	if !p.pidOne {
		list = append(list, "cannot reach processes that leave their process group: not PID 1")
	}
	return list
}

func (p *powers) canSwitchUsers() bool {
	return p.effective.Has(unix.CAP_SETUID) && p.effective.Has(unix.CAP_SETGID)
}

// is reports whether a process with the agent's own identity satisfies the
// request.
func (p *powers) is(user identity.Identity) bool {
	if user.UID != p.uid || user.GID != p.gid {
		return false
	}
	for _, gid := range user.AdditionalGIDs {
		if gid != p.gid && !slices.Contains(p.groups, gid) {
			return false
		}
	}
	return true
}
