package main

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// renderPolicyDocument makes the JSON of an aws_iam_policy_document. Like the real data source it refuses two
// statements of one Sid and writes a single value without a list.
func renderPolicyDocument(_ string, config tftypes.Value) (map[string]tftypes.Value, error) {
	var values map[string]tftypes.Value
	if err := config.As(&values); err != nil {
		return nil, err
	}
	for _, name := range []string{"override_json", "override_policy_documents", "source_json", "policy_id"} {
		if !values[name].IsNull() {
			return nil, fmt.Errorf("%s is not supported here", name)
		}
	}
	statements, err := sourceStatements(values["source_policy_documents"])
	if err != nil {
		return nil, err
	}
	var blocks []tftypes.Value
	if err := values["statement"].As(&blocks); err != nil {
		return nil, err
	}
	for _, block := range blocks {
		statement, err := renderStatement(block)
		if err != nil {
			return nil, err
		}
		statements = append(statements, statement)
	}
	seen := map[any]bool{}
	for _, statement := range statements {
		if sid := statement["Sid"]; sid != nil && sid != "" {
			if seen[sid] {
				return nil, fmt.Errorf("two statements have the Sid %q", sid)
			}
			seen[sid] = true
		}
	}
	document := map[string]any{"Version": "2012-10-17", "Statement": statements}
	pretty, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, err
	}
	minified, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	return map[string]tftypes.Value{
		"id":            text(fmt.Sprint(len(minified))),
		"json":          text(string(pretty)),
		"minified_json": text(string(minified)),
		"version":       text("2012-10-17"),
	}, nil
}

// sourceStatements are the statements of the documents that this one starts from.
func sourceStatements(documents tftypes.Value) ([]map[string]any, error) {
	sources, err := textsOf(documents)
	if err != nil {
		return nil, err
	}
	statements := []map[string]any{}
	for _, source := range sources {
		var document struct{ Statement []map[string]any }
		if err := json.Unmarshal([]byte(source), &document); err != nil {
			return nil, fmt.Errorf("source_policy_documents: %w", err)
		}
		statements = append(statements, document.Statement...)
	}
	return statements, nil
}

func renderStatement(block tftypes.Value) (map[string]any, error) {
	var values map[string]tftypes.Value
	if err := block.As(&values); err != nil {
		return nil, err
	}
	statement := map[string]any{"Effect": "Allow"}
	for attribute, key := range map[string]string{"effect": "Effect", "sid": "Sid"} {
		if !values[attribute].IsNull() {
			value, err := textOf(values[attribute])
			if err != nil {
				return nil, err
			}
			statement[key] = value
		}
	}
	for attribute, key := range map[string]string{
		"actions": "Action", "not_actions": "NotAction", "resources": "Resource", "not_resources": "NotResource",
	} {
		list, err := textsOf(values[attribute])
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			statement[key] = single(list)
		}
	}
	for attribute, key := range map[string]string{"principals": "Principal", "not_principals": "NotPrincipal"} {
		principals, err := renderPrincipals(values[attribute])
		if err != nil {
			return nil, err
		}
		if principals != nil {
			statement[key] = principals
		}
	}
	conditions, err := renderConditions(values["condition"])
	if err != nil {
		return nil, err
	}
	if len(conditions) > 0 {
		statement["Condition"] = conditions
	}
	return statement, nil
}

func renderPrincipals(blocks tftypes.Value) (any, error) {
	principals := map[string]any{}
	err := eachBlock(blocks, func(values map[string]tftypes.Value) error {
		kind, err := textOf(values["type"])
		if err != nil {
			return err
		}
		identifiers, err := textsOf(values["identifiers"])
		principals[kind] = single(identifiers)
		return err
	})
	if err != nil || len(principals) == 0 {
		return nil, err
	}
	if _, anyone := principals["*"]; anyone {
		return "*", nil
	}
	return principals, nil
}

func renderConditions(blocks tftypes.Value) (map[string]map[string]any, error) {
	conditions := map[string]map[string]any{}
	err := eachBlock(blocks, func(values map[string]tftypes.Value) error {
		test, err := textOf(values["test"])
		if err != nil {
			return err
		}
		variable, err := textOf(values["variable"])
		if err != nil {
			return err
		}
		list, err := textsOf(values["values"])
		if conditions[test] == nil {
			conditions[test] = map[string]any{}
		}
		conditions[test][variable] = single(list)
		return err
	})
	return conditions, err
}

func eachBlock(blocks tftypes.Value, visit func(map[string]tftypes.Value) error) error {
	var items []tftypes.Value
	if err := blocks.As(&items); err != nil {
		return err
	}
	for _, item := range items {
		var values map[string]tftypes.Value
		if err := item.As(&values); err != nil {
			return err
		}
		if err := visit(values); err != nil {
			return err
		}
	}
	return nil
}

// textsOf are the known texts of a list or set, sorted; a null has none.
func textsOf(value tftypes.Value) ([]string, error) {
	if value.IsNull() {
		return nil, nil
	}
	var items []tftypes.Value
	if err := value.As(&items); err != nil {
		return nil, err
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		each, err := textOf(item)
		if err != nil {
			return nil, err
		}
		list = append(list, each)
	}
	sort.Strings(list)
	return list, nil
}

func single(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}
