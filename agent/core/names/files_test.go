package names

import (
	"testing"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const platformResolv = "# made by the platform\nsearch old.example\nnameserver 169.254.169.253\nnameserver fd00::2\noptions timeout:2\nsearch eu-west-1.compute.internal a.example\noptions attempts:5\n"

func TestAResolverConfigurationKeepsWhatIsNotSet(t *testing.T) {
	for name, c := range map[string]struct {
		settings *agentv1.ResolverSettings
		want     string
	}{
		"nothing": {nil, "nameserver 169.254.169.253\nnameserver fd00::2\nsearch eu-west-1.compute.internal a.example\noptions timeout:2 attempts:5\n"},
		"all": {&agentv1.ResolverSettings{Servers: []string{"192.0.2.1"}, Search: []string{"x"}, Options: []string{"ndots:3"}},
			"nameserver 192.0.2.1\nsearch x\noptions ndots:3\n"},
		"no search": {&agentv1.ResolverSettings{Search: []string{"."}}, "nameserver 169.254.169.253\nnameserver fd00::2\noptions timeout:2 attempts:5\n"},
	} {
		if got := ParseConfiguration(platformResolv).With(c.settings).String(); got != c.want {
			t.Errorf("%s: %q instead of %q", name, got, c.want)
		}
	}
	if got := ParseConfiguration("nameserver 192.0.2.1\n").ByResolver().String(); got != "nameserver 127.0.0.11\noptions ndots:0\n" {
		t.Errorf("by the resolver: %q", got)
	}
	if got := ParseConfiguration("options ndots:2").ByResolver().String(); got != "nameserver 127.0.0.11\noptions ndots:2\n" {
		t.Errorf("with dots: %q", got)
	}
}

func TestHostsEntriesFollowThePlatforms(t *testing.T) {
	entries := []*agentv1.HostsEntry{{Address: "192.0.2.1", Names: []string{"a", "b"}}, {Address: "fd00::1", Names: []string{"c"}}}
	if got := Hosts("127.0.0.1 localhost\n10.0.0.1 ip-10-0-0-1", entries); got != "127.0.0.1 localhost\n10.0.0.1 ip-10-0-0-1\n192.0.2.1\ta b\nfd00::1\tc\n" {
		t.Errorf("%q", got)
	}
	if got := Hosts("192.0.2.1\tb other\n192.0.2.1\tb\n192.0.2.9\tb\n", entries[:1]); got != "192.0.2.1\tother\n192.0.2.9\tb\n192.0.2.1\ta b\n" {
		t.Errorf("names that move: %q", got)
	}
	if got := Hosts("", nil); got != defaultHosts {
		t.Errorf("%q", got)
	}
}
