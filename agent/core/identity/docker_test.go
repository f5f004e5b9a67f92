package identity

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

// some joins a random number of the choices.
func some(chance *rand.Rand, separator string, choices ...string) string {
	var taken []string
	for range chance.Intn(4) {
		taken = append(taken, choices[chance.Intn(len(choices))])
	}
	return strings.Join(taken, separator)
}

// dockerd looks users up with this library.
func TestResolveAgreesWithDockersLibrary(t *testing.T) {
	names := []string{"root", "alice", "bob", "1000", "7", "0", "#alice", "", " alice"}
	numbers := []string{"0", "7", "07", "1000", "5", "2147483647"}
	groupNames := []string{"root", "alice", "video", "audio", "#video"}
	specs := append([]string{"99", "stranger", "-1", "2147483648", "+7"}, append(names, numbers...)...)
	for seed := range int64(20_000) {
		chance := rand.New(rand.NewSource(seed))
		pick := func(choices []string) string { return choices[chance.Intn(len(choices))] }
		var passwd, group strings.Builder
		for range chance.Intn(5) {
			fmt.Fprintf(&passwd, "%s:x:%s:%s::%s:/bin/sh\n", pick(names), pick(numbers), pick(numbers), pick([]string{"/a", "/b"}))
		}
		for range chance.Intn(5) {
			name := pick(groupNames)
			if chance.Intn(4) == 0 {
				name = pick(numbers)
			}
			fmt.Fprintf(&group, "%s:x:%s:%s\n", name, pick(numbers), some(chance, ",", names...))
		}
		spec := pick(specs)
		if chance.Intn(2) == 0 {
			spec += ":" + pick(append(append([]string{"99", "stranger", "", "-1"}, groupNames...), numbers...))
		}
		want, wantErr := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, strings.NewReader(passwd.String()), strings.NewReader(group.String()))
		got, err := Resolve(Files{strings.NewReader(passwd.String()), strings.NewReader(group.String())}, spec, nil)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("seed %d, %q of\n%s%s: %v instead of %v", seed, spec, passwd.String(), group.String(), err, wantErr)
		}
		if err != nil {
			continue
		}
		expected := Identity{UID: uint32(want.Uid), GID: uint32(want.Gid), AdditionalGIDs: []uint32{uint32(want.Gid)}, Home: want.Home}
		for _, gid := range want.Sgids {
			expected.AdditionalGIDs = append(expected.AdditionalGIDs, uint32(gid))
		}
		expected.AdditionalGIDs = distinct(expected.AdditionalGIDs)
		if !reflect.DeepEqual(got, expected) {
			t.Fatalf("seed %d, %q of\n%s%s: %+v instead of %+v", seed, spec, passwd.String(), group.String(), got, expected)
		}
	}
}

func distinct(gids []uint32) []uint32 {
	var kept []uint32
	for _, gid := range gids {
		if !slices.Contains(kept, gid) {
			kept = append(kept, gid)
		}
	}
	return kept
}
