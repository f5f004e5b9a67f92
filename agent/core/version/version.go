// Package version holds the version of sockerless.
package version

// Version is SemVer. The build sets it with
// -ldflags '-X github.com/sockerless/sockerless/agent/core/version.Version=…'.
var Version = "0.1.0"
