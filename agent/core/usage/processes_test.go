package usage

import (
	"slices"
	"testing"

	"gotest.tools/v3/assert"
)

const psOutput = `UID        PID  PPID  C STIME TTY          TIME CMD
root         1     0  0 09:00 ?        00:00:01 /sbin/init
root        70    60  0 09:10 ?        00:00:00 sh -c sleep 1;  sleep 2
root        71    70  0 09:10 ?        00:00:00 sleep 2
`

func TestOnlyTheContainersProcessesAreInTheTable(t *testing.T) {
	table, err := ProcessTable(psOutput, []int{70, 71})
	assert.NilError(t, err)
	if want := []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}; !slices.Equal(table.Titles, want) {
		t.Error(table.Titles)
	}
	if len(table.Processes) != 2 || table.Processes[0].Columns[7] != "sh -c sleep 1; sleep 2" || len(table.Processes[1].Columns) != 8 {
		t.Error(table.Processes)
	}
}

func TestThreadsFollowTheirProcess(t *testing.T) {
	table, err := ProcessTable("PID TTY CMD\n1 ? init\n- - -\n70 ? sh\n- - -\n", []int{70})
	if err != nil || len(table.Processes) != 2 {
		t.Fatal(table, err)
	}
}

func TestOutputWithoutProcessNumbersIsRefused(t *testing.T) {
	for output, complaint := range map[string]string{
		"USER CMD\nroot sh\n": "Couldn't find PID field in ps output",
		"":                    "Couldn't find PID field in ps output",
		"PID CMD\nx sh\n":     "Unexpected pid 'x': strconv.Atoi: parsing \"x\": invalid syntax",
		"PID TTY CMD\n70\n":   `unexpected line of ps: "70"`,
	} {
		if _, err := ProcessTable(output, []int{70}); err == nil || err.Error() != complaint {
			t.Errorf("%q: %v", output, err)
		}
	}
}

func TestTitlesThatPoseAsProcessNumbersAreRefused(t *testing.T) {
	if err := CheckPsArguments("ae -o uid=PID"); err == nil || err.Error() != `specifying "uid=PID" is not allowed` {
		t.Error(err)
	}
	for _, fine := range []string{"", "aux", "-o pid=PID -o cmd", "ae -o ppid"} {
		assert.Check(t, CheckPsArguments(fine), fine)
	}
}

func TestPsIsAskedForTheseProcesses(t *testing.T) {
	if got := PsArguments("", []int{3, 40}); !slices.Equal(got, []string{"-ef", "-q3,40"}) {
		t.Error(got)
	}
	if got := PsArguments("aux", nil); !slices.Equal(got, []string{"aux"}) {
		t.Error(got)
	}
}
