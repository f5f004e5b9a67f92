// Package faultpoint lets tests kill the process at a named step. It does
// nothing unless the agent was built with the tag faultpoints, as tests build
// one of their own.
package faultpoint
