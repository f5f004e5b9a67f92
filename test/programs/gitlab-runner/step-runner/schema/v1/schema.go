// Package schema has the types of steps, none of which is ever made.
package schema

type StepInputs map[string]any

type Step struct {
	Name   *string
	Step   any
	Inputs StepInputs
	Script *string
	Run    []Step
	Env    map[string]string
}
