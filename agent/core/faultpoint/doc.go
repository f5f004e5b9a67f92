// Package faultpoint lets tests kill the process at a named step. It does nothing
// unless the agent is built with the tag faultpoints, as the tests' own agent is.
package faultpoint
