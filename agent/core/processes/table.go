package processes

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/commandline"
	"github.com/sockerless/sockerless/agent/core/identity"
)

// Table lists processes like ps, by PID.
func Table(all []Process, psArguments string) (titles []string, rows [][]string, err error) {
	columns, err := columnsFor(psArguments)
	if err != nil {
		return nil, nil, err
	}
	m, err := thisMachine(all)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	for _, p := range all {
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(m, p)
		}
		rows = append(rows, row)
	}
	return titles, rows, nil
}

// machine is the data about the machine that rows need.
type machine struct {
	now    time.Time
	boot   time.Time
	memory uint64            // bytes
	users  map[uint32]string // the container's
}

func thisMachine(all []Process) (*machine, error) {
	m := &machine{now: time.Now()}
	var uptime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime); err != nil {
		return nil, fmt.Errorf("read the machine's uptime: %w", err)
	}
	m.boot = m.now.Add(-time.Duration(uptime.Nano()))
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("read the machine's memory: %w", err)
	}
	m.memory = uint64(info.Totalram) * uint64(info.Unit)
	uids := map[uint32]bool{}
	for _, p := range all {
		if uid, err := strconv.ParseUint(uidOf(p), 10, 32); err == nil {
			uids[uint32(uid)] = true
		}
	}
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	// Without names users are shown as numbers: an unusable passwd file hides no
	// process.
	m.users, _ = identity.NamesIn(root, func(uid uint32) bool { return uids[uid] })
	return m, nil
}

// column is a column of a table.
type column struct {
	title string
	value func(*machine, Process) string
}

// The columns by ps's names.
var columnsByName = map[string]column{
	"pid":     {"PID", func(_ *machine, p Process) string { return strconv.Itoa(p.PID) }},
	"ppid":    {"PPID", func(_ *machine, p Process) string { return strconv.Itoa(p.Parent) }},
	"pgid":    {"PGID", func(_ *machine, p Process) string { return strconv.Itoa(p.Group) }},
	"sid":     {"SID", func(_ *machine, p Process) string { return strconv.Itoa(p.Session) }},
	"user":    {"USER", userOf},
	"uid":     {"UID", func(_ *machine, p Process) string { return uidOf(p) }},
	"c":       {"C", func(m *machine, p Process) string { return strconv.Itoa(int(m.load(p))) }},
	"%cpu":    {"%CPU", func(m *machine, p Process) string { return strconv.FormatFloat(m.load(p), 'f', 1, 64) }},
	"%mem":    {"%MEM", func(m *machine, p Process) string { return strconv.FormatFloat(m.share(p), 'f', 1, 64) }},
	"vsz":     {"VSZ", func(_ *machine, p Process) string { return strconv.FormatUint(p.Virtual>>10, 10) }},
	"rss":     {"RSS", func(_ *machine, p Process) string { return strconv.FormatUint(p.Resident>>10, 10) }},
	"ni":      {"NI", func(_ *machine, p Process) string { return strconv.Itoa(p.Nice) }},
	"nlwp":    {"NLWP", func(_ *machine, p Process) string { return strconv.Itoa(p.Threads) }},
	"tty":     {"TT", func(_ *machine, p Process) string { return terminal(p.Terminal) }},
	"stat":    {"STAT", func(_ *machine, p Process) string { return state(p) }},
	"s":       {"S", func(_ *machine, p Process) string { return string(p.State) }},
	"start":   {"START", func(m *machine, p Process) string { return m.started(p) }},
	"stime":   {"STIME", func(m *machine, p Process) string { return m.started(p) }},
	"etime":   {"ELAPSED", func(m *machine, p Process) string { return elapsed(m.age(p), false) }},
	"time":    {"TIME", func(_ *machine, p Process) string { return elapsed(processorTime(p), true) }},
	"comm":    {"COMMAND", func(_ *machine, p Process) string { return printable(p.Command) }},
	"args":    {"COMMAND", commandLine},
	"bsdtime": {"TIME", func(_ *machine, p Process) string { return minutes(processorTime(p)) }},
}

var columnAliases = map[string]string{
	"euser": "user", "ruser": "user", "uname": "user", "euid": "uid", "ruid": "uid", "pcpu": "%cpu", "pmem": "%mem",
	"vsize": "vsz", "rssize": "rss", "nice": "ni", "thcount": "nlwp", "tt": "tty", "tname": "tty", "state": "s",
	"start_time": "stime", "cputime": "time", "command": "args", "cmd": "args", "ucmd": "comm", "ucomm": "comm",
	"pgrp": "pgid", "sess": "sid", "session": "sid",
}

// titled is a column under another title.
func titled(name, title string) column { return column{title, columnsByName[name].value} }

var (
	shortFormat = []column{columnsByName["pid"], titled("tty", "TTY"), columnsByName["time"], titled("comm", "CMD")}
	fullFormat  = []column{titled("user", "UID"), columnsByName["pid"], columnsByName["ppid"], columnsByName["c"],
		columnsByName["stime"], titled("tty", "TTY"), columnsByName["time"], titled("args", "CMD")}
	userFormat = []column{columnsByName["user"], columnsByName["pid"], columnsByName["%cpu"], columnsByName["%mem"],
		columnsByName["vsz"], columnsByName["rss"], titled("tty", "TTY"), columnsByName["stat"], columnsByName["start"],
		columnsByName["bsdtime"], columnsByName["args"]}
	bsdFormat = []column{columnsByName["pid"], titled("tty", "TTY"), columnsByName["stat"], columnsByName["bsdtime"],
		columnsByName["args"]}
)

// unsupported returns, like ps, an error that names an unknown argument.
func unsupported(argument string) error {
	return fmt.Errorf("ps: %q is not supported here: -e, -f, -o, a, u, x and o are", argument)
}

// mostColumns bounds a table: its cells are read anew for each process, and a client
// may name the same column as often as a request is long.
const mostColumns = 256

// columnsFor selects the columns that ps's arguments ask for. It ignores their
// selection of processes: the container's are shown.
func columnsFor(arguments string) ([]column, error) {
	words := strings.Fields(arguments)
	if len(words) == 0 {
		return fullFormat, nil
	}
	format := shortFormat
	var chosen []column
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		flags, dashed := strings.CutPrefix(word, "-")
		if flags == "aux" { // with a dash it means the same
			dashed = false
		}
		for i, flag := range flags {
			switch {
			case flag == 'o':
				list := flags[i+1:]
				if list == "" && len(words) > 0 {
					list, words = words[0], words[1:]
				}
				columns, err := columnsNamed(list)
				if err != nil {
					return nil, err
				}
				if chosen = append(chosen, columns...); len(chosen) > mostColumns {
					return nil, fmt.Errorf("ps: there are %d columns at most", mostColumns)
				}
			case dashed && flag == 'f':
				format = fullFormat
			case dashed && strings.ContainsRune("eAaw", flag):
			case !dashed && flag == 'u':
				format = userFormat
			case !dashed && strings.ContainsRune("axw", flag):
				if flag == 'x' && len(format) == len(shortFormat) {
					format = bsdFormat
				}
			default:
				return nil, unsupported(word)
			}
			if flag == 'o' {
				break
			}
		}
	}
	if chosen != nil {
		return chosen, nil
	}
	return format, nil
}

// columnsNamed parses a list for `-o`: names, the last one perhaps with a title.
func columnsNamed(list string) ([]column, error) {
	list, title, retitled := strings.Cut(list, "=")
	var columns []column
	for name := range strings.SplitSeq(list, ",") {
		known := cmp.Or(columnAliases[name], name)
		c, found := columnsByName[known]
		if !found {
			return nil, unsupported(name)
		}
		if name == "cmd" {
			c.title = "CMD"
		}
		columns = append(columns, c)
	}
	if retitled {
		columns[len(columns)-1].title = title
	}
	return columns, nil
}

func uidOf(p Process) string {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", p.PID), &st); err != nil {
		return "?" // it has ended
	}
	return strconv.FormatUint(uint64(st.Uid), 10)
}

func userOf(m *machine, p Process) string {
	text := uidOf(p)
	uid, err := strconv.ParseUint(text, 10, 32)
	if name := m.users[uint32(uid)]; err == nil && name != "" {
		return printable(name)
	}
	return text
}

func processorTime(p Process) time.Duration { return ticks(p.Ticks) }

func ticks(count uint64) time.Duration {
	return time.Duration(count) * time.Second / TicksPerSecond
}

func (m *machine) begun(p Process) time.Time { return m.boot.Add(ticks(p.Start)) }

func (m *machine) age(p Process) time.Duration { return max(0, m.now.Sub(m.begun(p))) }

// load is the percentage of its life that it spent on a processor.
func (m *machine) load(p Process) float64 {
	age := m.age(p)
	if age == 0 {
		return 0
	}
	return 100 * processorTime(p).Seconds() / age.Seconds()
}

func (m *machine) share(p Process) float64 {
	return 100 * float64(p.Resident) / float64(max(1, m.memory))
}

func (m *machine) started(p Process) string {
	begun := m.begun(p)
	switch {
	case begun.Year() != m.now.Year():
		return begun.Format("2006")
	case begun.YearDay() != m.now.YearDay():
		return begun.Format("Jan02")
	}
	return begun.Format("15:04")
}

// elapsed formats a time as [days-]hours:minutes:seconds, without hours where
// they may be omitted.
func elapsed(d time.Duration, hours bool) string {
	seconds := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d", seconds/60%60, seconds%60)
	if days := seconds / 86400; days > 0 {
		return fmt.Sprintf("%d-%02d:%s", days, seconds/3600%24, text)
	}
	if hours || seconds >= 3600 {
		text = fmt.Sprintf("%02d:%s", seconds/3600, text)
	}
	return text
}

// minutes formats a time as minutes:seconds.
func minutes(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

// terminal names a terminal by its device number.
func terminal(device uint32) string {
	major, minor := unix.Major(uint64(device)), unix.Minor(uint64(device))
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143: // Unix98 pseudo-terminals, 256 each
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

// state is ps's STAT column.
func state(p Process) string {
	text := string(p.State)
	if p.Nice < 0 {
		text += "<"
	} else if p.Nice > 0 {
		text += "N"
	}
	if p.Session == p.PID {
		text += "s"
	}
	if p.Threads > 1 {
		text += "l"
	}
	if p.Foreground == p.Group {
		text += "+"
	}
	return text
}

// maxCommandLine bounds how many argument bytes are shown, since the process
// chooses them.
const maxCommandLine = 32 << 10

func commandLine(_ *machine, p Process) string {
	content, err := commandline.Read(p.PID)
	if err != nil || len(content) == 0 {
		return "[" + printable(p.Command) + "]"
	}
	content = bytes.TrimRight(content[:min(len(content), maxCommandLine)], "\x00")
	return printable(string(bytes.ReplaceAll(content, []byte{0}, []byte{' '})))
}

// printable replaces characters on which a terminal would act.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
