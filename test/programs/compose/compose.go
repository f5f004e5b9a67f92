//go:build client

// Package compose names the docker compose that the tests build and run; only
// `go build` of its command is of use.
package compose

import _ "github.com/docker/compose/v2/cmd"
