package usage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// DefaultPsArguments are those of `docker top` without any.
const DefaultPsArguments = "-ef"

// pidTitle finds columns that a format renames to something with PID, so that
// other processes would be mistaken for the container's.
var pidTitle = regexp.MustCompile(`\s+([^\s]*)=\s*(PID[^\s]*)`)

// CheckPsArguments refuses arguments of ps that make its output ambiguous.
func CheckPsArguments(arguments string) error {
	for _, match := range pidTitle.FindAllStringSubmatch(arguments, -1) {
		if match[1] != "pid" {
			return fmt.Errorf(`specifying "%s=%s" is not allowed`, match[1], match[2])
		}
	}
	return nil
}

// PsArguments are ps's arguments to list only these processes. Some options
// exclude `-q`: without it ps lists all processes, and ProcessTable selects.
func PsArguments(arguments string, pids []int) []string {
	if arguments == "" {
		arguments = DefaultPsArguments
	}
	words := strings.Split(arguments, " ")
	if pids == nil {
		return words
	}
	numbers := make([]string, len(pids))
	for i, pid := range pids {
		numbers[i] = strconv.Itoa(pid)
	}
	return append(words, "-q"+strings.Join(numbers, ","))
}

// ProcessTable selects the lines of these processes from ps's output.
func ProcessTable(output string, pids []int) (*agentv1.TopResponse, error) {
	header, rest, _ := strings.Cut(output, "\n")
	table := &agentv1.TopResponse{Titles: fieldsOf(header)}
	column := slices.Index(table.Titles, "PID")
	if column < 0 {
		return nil, errors.New("Couldn't find PID field in ps output")
	}
	ours := false // whether the last process is: its threads follow it, with "-" for a PID
	for line := range strings.SplitSeq(rest, "\n") {
		fields := fieldsOf(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < len(table.Titles) {
			return nil, fmt.Errorf("unexpected line of ps: %q", line)
		}
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return nil, fmt.Errorf("Unexpected pid '%s': %w", fields[column], err)
			}
			_, ours = slices.BinarySearch(pids, pid)
		}
		if ours {
			// The last column is a command, with blanks.
			last := len(table.Titles) - 1
			row := append(fields[:last:last], strings.Join(fields[last:], " "))
			table.Processes = append(table.Processes, &agentv1.ProcessRow{Columns: row})
		}
	}
	return table, nil
}

func fieldsOf(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("\t\n\f\r ", r) })
}
