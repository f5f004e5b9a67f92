package names

import (
	"net"
	"slices"
	"strings"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// ResolverAddress is the address of a container's resolver, on port 53.
var ResolverAddress = net.IPv4(127, 0, 0, 11).To4()

// Configuration is the content of a resolv.conf.
type Configuration struct {
	Servers []string // addresses
	Search  []string
	Options []string
}

// ParseConfiguration parses a resolv.conf as the C library does: the last
// `search` or `domain` counts, servers and options accumulate.
func ParseConfiguration(content string) Configuration {
	var c Configuration
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			c.Servers = append(c.Servers, fields[1])
		case "search", "domain":
			c.Search = fields[1:]
		case "options":
			c.Options = append(c.Options, fields[1:]...)
		}
	}
	return c
}

// With returns the configuration, overridden by what settings contain.
func (c Configuration) With(settings *agentv1.ResolverSettings) Configuration {
	if len(settings.GetServers()) > 0 {
		c.Servers = settings.Servers
	}
	if len(settings.GetSearch()) > 0 {
		c.Search = settings.Search
	}
	if len(settings.GetOptions()) > 0 {
		c.Options = settings.Options
	}
	if slices.Equal(c.Search, []string{"."}) {
		c.Search = nil
	}
	return c
}

// ByResolver is the configuration of a container that uses our resolver, which
// then asks these servers: names without a dot may be names of containers, as
// with Docker.
func (c Configuration) ByResolver() Configuration {
	c.Servers = []string{ResolverAddress.String()}
	if !slices.ContainsFunc(c.Options, func(option string) bool { return strings.HasPrefix(option, "ndots:") }) {
		c.Options = append(slices.Clone(c.Options), "ndots:0")
	}
	return c
}

// String is the content of the file.
func (c Configuration) String() string {
	var text strings.Builder
	for _, server := range c.Servers {
		text.WriteString("nameserver " + server + "\n")
	}
	if len(c.Search) > 0 {
		text.WriteString("search " + strings.Join(c.Search, " ") + "\n")
	}
	if len(c.Options) > 0 {
		text.WriteString("options " + strings.Join(c.Options, " ") + "\n")
	}
	return text.String()
}

// defaultHosts is the minimal hosts file.
const defaultHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// Hosts appends entries to a hosts file. A name that the file has at an entry's
// address moves to the entry, whose first name is the canonical one.
func Hosts(before string, entries []*agentv1.HostsEntry) string {
	if strings.TrimSpace(before) == "" {
		before = defaultHosts
	}
	if !strings.HasSuffix(before, "\n") {
		before += "\n"
	}
	text := strings.Builder{}
	for line := range strings.Lines(before) {
		text.WriteString(withoutMoved(line, entries))
	}
	for _, entry := range entries {
		text.WriteString(entry.Address + "\t" + strings.Join(entry.Names, " ") + "\n")
	}
	return text.String()
}

// withoutMoved is a line without the names that entries have for its address;
// empty: it has no others.
func withoutMoved(line string, entries []*agentv1.HostsEntry) string {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return line
	}
	kept := slices.DeleteFunc(slices.Clone(fields), func(name string) bool {
		return slices.ContainsFunc(entries, func(entry *agentv1.HostsEntry) bool {
			return entry.Address == fields[0] && slices.Contains(entry.Names, name)
		})
	})
	switch len(kept) {
	case len(fields):
		return line
	case 1:
		return ""
	}
	return kept[0] + "\t" + strings.Join(kept[1:], " ") + "\n"
}
