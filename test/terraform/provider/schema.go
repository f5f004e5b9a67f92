package main

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// provider is a fixture: what a provider's schema says of the resources and data sources in use.
type provider struct {
	// Source is the address under which Terraform knows the provider.
	Source      string            `json:"source"`
	Config      *block            `json:"config"`
	Resources   map[string]*block `json:"resources"`
	DataSources map[string]*block `json:"dataSources"`
}

type block struct {
	Attributes map[string]attribute   `json:"attributes"`
	Blocks     map[string]nestedBlock `json:"blocks"`
}

type attribute struct {
	Type      valueType `json:"type"`
	Mode      string    `json:"mode"`
	Sensitive bool      `json:"sensitive"`
}

// isComputed tells whether the provider may set the attribute.
func (a attribute) isComputed() bool {
	return a.Mode == "computed" || a.Mode == "optional+computed"
}

type nestedBlock struct {
	block
	Nesting string `json:"nesting"`
	Min     int64  `json:"min"`
	Max     int64  `json:"max"`
}

// valueType reads Terraform's JSON notation of types: "string", ["set", "string"], ["object", {…}].
type valueType struct{ tftypes.Type }

var simpleTypes = map[string]tftypes.Type{
	"string":  tftypes.String,
	"number":  tftypes.Number,
	"bool":    tftypes.Bool,
	"dynamic": tftypes.DynamicPseudoType,
}

func (t *valueType) UnmarshalJSON(data []byte) error {
	var name string
	if json.Unmarshal(data, &name) == nil {
		if t.Type = simpleTypes[name]; t.Type == nil {
			return fmt.Errorf("unknown type %s", data)
		}
		return nil
	}
	var parts [2]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("type %s: %w", data, err)
	}
	var kind string
	if err := json.Unmarshal(parts[0], &kind); err != nil {
		return fmt.Errorf("type %s: %w", data, err)
	}
	if kind == "object" {
		var fields map[string]valueType
		if err := json.Unmarshal(parts[1], &fields); err != nil {
			return err
		}
		types := make(map[string]tftypes.Type, len(fields))
		for name, field := range fields {
			types[name] = field.Type
		}
		t.Type = tftypes.Object{AttributeTypes: types}
		return nil
	}
	var element valueType
	if err := json.Unmarshal(parts[1], &element); err != nil {
		return err
	}
	switch kind {
	case "list":
		t.Type = tftypes.List{ElementType: element.Type}
	case "set":
		t.Type = tftypes.Set{ElementType: element.Type}
	case "map":
		t.Type = tftypes.Map{ElementType: element.Type}
	default:
		return fmt.Errorf("unknown type %s", data)
	}
	return nil
}

func loadProvider(name string) (*provider, error) {
	data, err := fixtures.ReadFile("fixtures/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("no schema of a provider %q: %w", name, err)
	}
	schema := new(provider)
	if err := json.Unmarshal(data, schema); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", name, err)
	}
	return schema, nil
}

var nestings = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov5.SchemaNestedBlockNestingModeList,
	"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
}

func (b *block) schema() *tfprotov5.Schema {
	return &tfprotov5.Schema{Block: b.schemaBlock()}
}

func (b *block) schemaBlock() *tfprotov5.SchemaBlock {
	result := new(tfprotov5.SchemaBlock)
	for _, name := range sortedKeys(b.Attributes) {
		attribute := b.Attributes[name]
		result.Attributes = append(result.Attributes, &tfprotov5.SchemaAttribute{
			Name:      name,
			Type:      attribute.Type.Type,
			Required:  attribute.Mode == "required",
			Optional:  attribute.Mode == "optional" || attribute.Mode == "optional+computed",
			Computed:  attribute.isComputed(),
			Sensitive: attribute.Sensitive,
		})
	}
	for _, name := range sortedKeys(b.Blocks) {
		nested := b.Blocks[name]
		schema := &tfprotov5.SchemaNestedBlock{
			TypeName: name,
			Block:    nested.schemaBlock(),
			Nesting:  nestings[nested.Nesting],
		}
		if nested.Nesting != "single" {
			schema.MinItems, schema.MaxItems = nested.Min, nested.Max
		}
		result.BlockTypes = append(result.BlockTypes, schema)
	}
	return result
}

func sortedKeys[Value any](values map[string]Value) []string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
