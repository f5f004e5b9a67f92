package descriptors_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/descriptors"
)

const marker = "SOCKERLESS_TEST_INHERITS"

// The test binary also acts as the inheriting process, and as its child.
func TestMain(m *testing.M) {
	switch os.Getenv(marker) {
	case "":
		os.Exit(m.Run())
	case "child":
		printInherited()
	default:
		if err := descriptors.CloseInherited(4); err != nil {
			fmt.Println(err)
		}
		printInherited()
		child := exec.Command("/proc/self/exe")
		child.Env = []string{marker + "=child"}
		child.Stdout = os.Stdout
		if err := child.Run(); err != nil {
			fmt.Println(err)
		}
	}
}

func printInherited() {
	for fd := 3; fd < 200; fd++ {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(target, "pipe:") {
			fmt.Print(fd, " ")
		}
	}
	fmt.Println(".")
}

func TestOnlyWhatIsKeptStaysOpenAndNothingReachesAChild(t *testing.T) {
	reader, writer, err := os.Pipe()
	assert.NilError(t, err)
	defer reader.Close()
	defer writer.Close()
	process := exec.Command("/proc/self/exe")
	process.Env = []string{marker + "=parent"}
	process.ExtraFiles = make([]*os.File, 100)
	for _, fd := range []int{3, 4, 5, 99} {
		process.ExtraFiles[fd-3] = reader
	}
	output, err := process.CombinedOutput()
	if err != nil || string(output) != "4 .\n.\n" {
		t.Fatalf("%q, %v", output, err)
	}
}
