// Package identity looks up users and groups in a container's own passwd and
// group files, by Docker's rules.
package identity

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Identity is who a process runs as.
type Identity struct {
	UID uint32
	GID uint32
	// AdditionalGIDs are the supplementary groups. GID is the first of them, as
	// in Docker: without it a process could drop the primary group and so pass a
	// permission check that denies that group.
	AdditionalGIDs []uint32
	Home           string // from passwd; "/" without an entry
}

// Reasons that a lookup fails; the wrapping error names the user or group.
var (
	ErrNoUserEntry  = errors.New("no matching entries in passwd file")
	ErrNoGroupEntry = errors.New("no matching entries in group file")
	ErrOutOfRange   = fmt.Errorf("uids and gids must be in range 0-%d", math.MaxInt32)
)

// Files are the contents of /etc/passwd and /etc/group. A nil reader is an
// empty file.
type Files struct {
	Passwd io.Reader
	Group  io.Reader
}

// Resolve finds who spec ("user", "user:group", names or numbers; empty: user
// 0) is. Numbers need no entry. additionalGroups (names or numbers) come after
// the groups that the group file lists the user in; those count only where
// spec names no group.
func Resolve(files Files, spec string, additionalGroups []string) (Identity, error) {
	userArg, groupArg, _ := strings.Cut(spec, ":")

	identity, userName, err := resolveUser(files.Passwd, userArg)
	if err != nil {
		return Identity{}, err
	}
	groups, err := parseGroups(files.Group)
	if err != nil {
		return Identity{}, fmt.Errorf("read the group file: %w", err)
	}
	if groupArg != "" {
		if identity.GID, err = resolveGroup(groups, groupArg, "unable"); err != nil {
			return Identity{}, err
		}
	}
	identity.AdditionalGIDs = []uint32{identity.GID}
	if groupArg == "" && userName != "" {
		for _, group := range groups {
			if group.hasMember(userName) {
				identity.AdditionalGIDs = append(identity.AdditionalGIDs, group.gid)
			}
		}
	}
	for _, name := range additionalGroups {
		gid, err := resolveGroup(groups, name, "Unable")
		if err != nil {
			return Identity{}, err
		}
		identity.AdditionalGIDs = append(identity.AdditionalGIDs, gid)
	}
	identity.AdditionalGIDs = withoutRepetition(identity.AdditionalGIDs)
	return identity, nil
}

// resolveUser answers the user's name too, where the passwd file has one.
func resolveUser(passwd io.Reader, userArg string) (Identity, string, error) {
	if userArg == "" {
		userArg = "0"
	}
	number, isNumber := parseNumber(userArg)
	identity, name := Identity{Home: "/"}, ""
	found := false
	err := forEachLine(passwd, func(fields []string) bool {
		uid, ok := parseNumber(field(fields, 2))
		if !ok || (fields[0] != userArg && !(isNumber && uid == number)) {
			return true
		}
		gid, ok := parseNumber(field(fields, 3))
		if !ok || uid > math.MaxInt32 || gid > math.MaxInt32 {
			return true
		}
		identity.UID, identity.GID, name, found = uint32(uid), uint32(gid), fields[0], true
		if home := field(fields, 5); home != "" {
			identity.Home = home
		}
		return false
	})
	switch {
	case err != nil:
		return Identity{}, "", fmt.Errorf("read the passwd file: %w", err)
	case found:
		return identity, name, nil
	case !isNumber:
		return Identity{}, "", fmt.Errorf("unable to find user %s: %w", userArg, ErrNoUserEntry)
	case number > math.MaxInt32:
		return Identity{}, "", ErrOutOfRange
	}
	identity.UID = uint32(number)
	return identity, "", nil
}

type group struct {
	name    string
	gid     uint32
	members string // comma-separated
}

func (g group) hasMember(user string) bool {
	for member := range strings.SplitSeq(g.members, ",") {
		if member == user {
			return true
		}
	}
	return false
}

func parseGroups(file io.Reader) ([]group, error) {
	var groups []group
	err := forEachLine(file, func(fields []string) bool {
		if gid, ok := parseNumber(field(fields, 2)); ok && gid <= math.MaxInt32 {
			groups = append(groups, group{fields[0], uint32(gid), field(fields, 3)})
		}
		return true
	})
	return groups, err
}

// resolveGroup words its error as Docker does, which begins it with a capital
// for additional groups and without one for the main group.
func resolveGroup(groups []group, name, unable string) (uint32, error) {
	number, isNumber := parseNumber(name)
	for _, group := range groups {
		if group.name == name || (isNumber && uint64(group.gid) == number) {
			return group.gid, nil
		}
	}
	switch {
	case !isNumber:
		return 0, fmt.Errorf("%s to find group %s: %w", unable, name, ErrNoGroupEntry)
	case number > math.MaxInt32:
		return 0, ErrOutOfRange
	}
	return uint32(number), nil
}

func parseNumber(text string) (uint64, bool) {
	number, err := strconv.ParseUint(text, 10, 63)
	return number, err == nil
}

func withoutRepetition(gids []uint32) []uint32 {
	seen := make(map[uint32]bool, len(gids))
	kept := gids[:0]
	for _, gid := range gids {
		if !seen[gid] {
			seen[gid] = true
			kept = append(kept, gid)
		}
	}
	return kept
}
