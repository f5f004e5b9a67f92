// Package identity looks up users and groups in a container's own passwd and
// group files, by Docker's rules.
//
// They are those of github.com/moby/sys/user, and a test compares both. Only
// hostile files are read differently: a number too large for that package is not
// taken for a name, nor a number of --group-add for a group's name; the files'
// numbers do not wrap around, and a word in place of a number is not 0; matches
// are not collected, so memory is bounded.
package identity

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 1 << 16

// Identity is the user and groups of a process.
type Identity struct {
	UID uint32
	GID uint32
	// AdditionalGIDs are the supplementary groups, GID first as in Docker:
	// without it a process could drop its primary group and so pass a permission
	// check that denies that group.
	AdditionalGIDs []uint32
	Home           string // from passwd; "/" without an entry
}

// Reasons why a lookup fails; the wrapping error names the user or group.
var (
	ErrNoUserEntry   = errors.New("no matching entries in passwd file")
	ErrNoGroupEntry  = errors.New("no matching entries in group file")
	ErrOutOfRange    = fmt.Errorf("uids and gids must be in range 0-%d", math.MaxInt32)
	ErrTooManyGroups = fmt.Errorf("more than %d groups", maxGroups)
)

// Files are the contents of /etc/passwd and /etc/group. A nil reader counts as an
// empty file.
type Files struct {
	Passwd io.Reader
	Group  io.Reader
}

// Resolve looks up spec ("user", "user:group", names or numbers; empty: user 0).
// Numbers need no entry and are never names. The groups that list the user count
// only if spec names no group; additionalGroups (names or numbers) come after
// them.
func Resolve(files Files, spec string, additionalGroups []string) (Identity, error) {
	userArg, groupArg, _ := strings.Cut(spec, ":")
	groupArg, _, _ = strings.Cut(groupArg, ":")

	identity, userName, err := resolveUser(files.Passwd, userArg)
	if err != nil {
		return Identity{}, err
	}
	names := additionalGroups
	if groupArg != "" {
		names, userName = append([]string{groupArg}, names...), ""
	}
	groups, err := searchGroups(files.Group, names, userName)
	if err != nil {
		return Identity{}, err
	}
	if groupArg != "" {
		if identity.GID, err = groups.gid(groupArg, "unable"); err != nil {
			return Identity{}, err
		}
	}
	gids := slices.Insert(groups.joined, 0, identity.GID)
	for _, name := range additionalGroups {
		// Docker capitalises this error, but not that of the main group.
		gid, err := groups.gid(name, "Unable")
		if err != nil {
			return Identity{}, err
		}
		gids = append(gids, gid)
	}
	if identity.AdditionalGIDs = withoutRepetition(gids); len(identity.AdditionalGIDs) > maxGroups {
		return Identity{}, ErrTooManyGroups
	}
	return identity, nil
}

// resolveUser also returns the user's name if the passwd file has one.
func resolveUser(passwd io.Reader, userArg string) (Identity, string, error) {
	wanted, isNumber, err := parseID(cmp.Or(userArg, "0"))
	if err != nil {
		return Identity{}, "", err
	}
	identity, name := Identity{UID: wanted, Home: "/"}, ""
	found := isNumber
	var outOfRange error
	err = forEachLine(passwd, func(fields []string) bool {
		uid, hasUID, uidErr := parseID(field(fields, 2))
		gid, hasGID, gidErr := parseID(cmp.Or(field(fields, 3), "0"))
		matches := fields[0] == userArg
		if isNumber {
			matches = uidErr == nil && uid == wanted
		}
		if !matches || !hasUID || !hasGID {
			return true
		}
		outOfRange = cmp.Or(uidErr, gidErr)
		identity.UID, identity.GID, name, found = uid, gid, fields[0], true
		identity.Home = cmp.Or(field(fields, 5), "/")
		return false
	})
	switch {
	case err != nil:
		return Identity{}, "", fmt.Errorf("read the passwd file: %w", err)
	case !found:
		return Identity{}, "", fmt.Errorf("unable to find user %s: %w", userArg, ErrNoUserEntry)
	}
	return identity, name, outOfRange
}

// groupSearch is the result of one pass over the group file.
type groupSearch struct {
	named  map[string]foundGroup
	joined []uint32 // the groups that list the user
}

type foundGroup struct {
	gid uint32
	err error // of the number in the file
}

// searchGroups finds the groups with these names and those that list the user
// ("": no user).
func searchGroups(file io.Reader, names []string, userName string) (groupSearch, error) {
	search := groupSearch{named: map[string]foundGroup{}}
	wanted := setOf(names)
	var failure error
	err := forEachLine(file, func(fields []string) bool {
		gid, hasGID, err := parseID(field(fields, 2))
		if !hasGID || strings.HasPrefix(fields[0], "#") {
			return true
		}
		if _, known := search.named[fields[0]]; !known && wanted[fields[0]] {
			search.named[fields[0]] = foundGroup{gid, err}
		}
		if userName == "" || !hasMember(field(fields, 3), userName) {
			return true
		}
		if search.joined = append(search.joined, gid); len(search.joined) > maxGroups {
			search.joined = withoutRepetition(search.joined)
		}
		if failure = err; len(search.joined) > maxGroups {
			failure = ErrTooManyGroups
		}
		return failure == nil
	})
	if err != nil {
		err = fmt.Errorf("read the group file: %w", err)
	}
	return search, cmp.Or(err, failure)
}

// setOf makes a set of a user's list, which is compared with each line of an image's
// file.
func setOf[T comparable](list []T) map[T]bool {
	set := make(map[T]bool, len(list))
	for _, each := range list {
		set[each] = true
	}
	return set
}

// hasMember searches a comma-separated list.
func hasMember(members, user string) bool {
	for member := range strings.SplitSeq(members, ",") {
		if member == user {
			return true
		}
	}
	return false
}

// gid returns a group's number; its error begins with unable.
func (s groupSearch) gid(nameOrNumber, unable string) (uint32, error) {
	number, isNumber, err := parseID(nameOrNumber)
	if isNumber {
		return number, err
	}
	group, found := s.named[nameOrNumber]
	if !found {
		return 0, fmt.Errorf("%s to find group %s: %w", unable, nameOrNumber, ErrNoGroupEntry)
	}
	return group.gid, group.err
}

// parseID parses a number of any size; isNumber reports whether text has the form
// of one.
func parseID(text string) (id uint32, isNumber bool, err error) {
	number, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, false, nil
	case err != nil || number < 0 || number > math.MaxInt32:
		return 0, true, ErrOutOfRange
	}
	return uint32(number), true, nil
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
