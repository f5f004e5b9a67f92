package processes

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestAProcessStateIsRead(t *testing.T) {
	line := "4242 (a) b (c) S 7 4242 4240 34816 4250 4194304 1 2 3 4 150 50 30 20 20 -5 3 0 123456 8192000 250 18446744073709551615 1"
	p, err := parseStat([]byte(line))
	assert.NilError(t, err)
	want := Process{PID: 4242, Parent: 7, Group: 4242, Session: 4240, Terminal: 34816, Foreground: 4250, State: 'S',
		Command: "a) b (c", Ticks: 200, WaitedFor: 50, Nice: -5, Threads: 3, Start: 123456, Virtual: 8192000, Resident: 250 * uint64(os.Getpagesize())}
	assert.Check(t, p == want, "%+v", p)
	for _, broken := range []string{"", "1 (x", "1 (x) S 1 2", strings.Replace(line, "123456", "x", 1)} {
		if _, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("%q was read", broken)
		}
	}
}

func TestDescendantsComeAfterTheirParents(t *testing.T) {
	child := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	out, err := child.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, child.Start())
	line := make([]byte, 20)
	n, _ := out.Read(line)
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	assert.NilError(t, err)
	defer func() {
		process, _ := os.FindProcess(grandchild)
		process.Kill()
		child.Wait()
	}()
	// The shell's child is the shell until it has become the program.
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", grandchild)); string(name) == "sleep\n" {
			break
		}
		assert.Assert(t, !time.Now().After(limit), "the shell runs nothing")
	}
	all, err := Descendants(os.Getpid())
	assert.NilError(t, err)
	at := func(pid int) int { return slices.IndexFunc(all, func(p Process) bool { return p.PID == pid }) }
	if at(child.Process.Pid) < 0 || at(grandchild) < at(child.Process.Pid) || at(os.Getpid()) >= 0 {
		t.Errorf("%+v", all)
	}
	titles, rows, err := Table(all, "-eo pid,ppid,args")
	if err != nil || !slices.Equal(titles, []string{"PID", "PPID", "COMMAND"}) {
		t.Fatal(titles, err)
	}
	if want := []string{strconv.Itoa(grandchild), strconv.Itoa(child.Process.Pid), "sleep 1000"}; !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, want) }) {
		t.Errorf("%q lacks %q", rows, want)
	}
}

func TestTheColumnsArePss(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                 "UID PID PPID C STIME TTY TIME CMD",
		"-ef":              "UID PID PPID C STIME TTY TIME CMD",
		"-e -f":            "UID PID PPID C STIME TTY TIME CMD",
		"aux":              "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"-aux":             "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"ax":               "PID TTY STAT TIME COMMAND",
		"-e":               "PID TTY TIME CMD",
		"-o pid,user,cmd":  "PID USER CMD",
		"-eo pid -o comm=": "PID ",
		"o pid,tty=WHERE":  "PID WHERE",
	} {
		titles, _, err := Table(nil, arguments)
		if got := strings.Join(titles, " "); got != want || err != nil {
			t.Errorf("%q: %q, %v", arguments, got, err)
		}
	}
	for _, arguments := range []string{"-L", "-o pid,wchan", "--forest", "f", "-o pid" + strings.Repeat(",args", 256)} {
		if _, _, err := Table(nil, arguments); err == nil || !strings.HasPrefix(err.Error(), "ps: ") {
			t.Errorf("%q: %v", arguments, err)
		}
	}
}

func TestARowSaysWhatPsWouldSay(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.Local)
	m := &machine{now: now, boot: now.Add(-50 * time.Hour), memory: 1 << 30}
	p := Process{Start: 49 * 3600 * TicksPerSecond, Ticks: 90*TicksPerSecond + 50, Resident: 64 << 20, Virtual: 128 << 20,
		Terminal: 34817, State: 'S', Session: 0, PID: 0, Threads: 2, Foreground: -1, Nice: 5, Command: "x\x1b"}
	for name, want := range map[string]string{
		"c": "2", "%cpu": "2.5", "%mem": "6.2", "vsz": "131072", "rss": "65536", "tty": "pts/1", "stat": "SNsl", "start": "11:00",
		"etime": "01:00:00", "time": "00:01:30", "bsdtime": "1:30", "comm": "x?",
	} {
		if got := columnsByName[name].value(m, p); got != want {
			t.Errorf("%s is %q instead of %q", name, got, want)
		}
	}
	old := Process{Start: 0}
	if got := m.started(old); got != "Mar02" {
		t.Errorf("started %q", got)
	}
	if got := elapsed(50*time.Hour, true); got != "2-02:00:00" {
		t.Errorf("elapsed %q", got)
	}
	if got := elapsed(61*time.Second, false); got != "01:01" {
		t.Errorf("elapsed %q", got)
	}
}
