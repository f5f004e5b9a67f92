// Package fields names the fields of log lines.
package fields

const (
	DurationS      = "duration_s"
	HTTPStatusCode = "status"
)

type Deprecation struct{ Standard string }

var (
	Deprecated     = map[string]Deprecation{}
	VariantVersion = map[string]int{}
	ServiceMapping = map[string]string{}
)
