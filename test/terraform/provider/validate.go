package main

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// validate refuses values for attributes that only the provider sets. All else that a schema says, Terraform checks.
func validate(schema *block, config tftypes.Value) error {
	if config.IsNull() || !config.IsKnown() {
		return nil
	}
	values := map[string]tftypes.Value{}
	if err := config.As(&values); err != nil {
		return err
	}
	for _, name := range sortedKeys(schema.Attributes) {
		if schema.Attributes[name].Mode == "computed" && !values[name].IsNull() {
			return fmt.Errorf("value for unconfigurable attribute %q: it is decided by the provider", name)
		}
	}
	for _, name := range sortedKeys(schema.Blocks) {
		nested, value := schema.Blocks[name], values[name]
		items := []tftypes.Value{value}
		if nested.Nesting != "single" {
			if value.IsNull() || !value.IsKnown() {
				continue
			}
			if err := value.As(&items); err != nil {
				return err
			}
		}
		for _, item := range items {
			if err := validate(&nested.block, item); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
