package main

import (
	"os"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// plan marks as unknown what only an apply can know, and merges tags. Terraform's proposal already holds what is
// configured and, for a resource that exists, what it had before.
func plan(schema *block, proposed tftypes.Value, isNew bool, defaultTags map[string]tftypes.Value) (tftypes.Value, error) {
	planned, err := planBlock(schema, proposed, isNew)
	if err != nil {
		return proposed, err
	}
	if _, hasTags := schema.Attributes["tags_all"]; !hasTags {
		return planned, nil
	}
	attributes := map[string]tftypes.Value{}
	if err := planned.As(&attributes); err != nil {
		return proposed, err
	}
	if attributes["tags_all"], err = mergeTags(defaultTags, attributes["tags"]); err != nil {
		return proposed, err
	}
	return tftypes.NewValue(planned.Type(), attributes), nil
}

func planBlock(schema *block, proposed tftypes.Value, isNew bool) (tftypes.Value, error) {
	if proposed.IsNull() || !proposed.IsKnown() {
		return proposed, nil
	}
	values := map[string]tftypes.Value{}
	if err := proposed.As(&values); err != nil {
		return proposed, err
	}
	for name, attribute := range schema.Attributes {
		if isNew && attribute.isComputed() && values[name].IsNull() {
			values[name] = tftypes.NewValue(attribute.Type.Type, tftypes.UnknownValue)
		}
	}
	for name, nested := range schema.Blocks {
		value, err := planNested(nested, values[name], isNew)
		if err != nil {
			return proposed, err
		}
		values[name] = value
	}
	return tftypes.NewValue(proposed.Type(), values), nil
}

func planNested(schema nestedBlock, proposed tftypes.Value, isNew bool) (tftypes.Value, error) {
	if schema.Nesting == "single" {
		return planBlock(&schema.block, proposed, isNew)
	}
	if proposed.IsNull() || !proposed.IsKnown() {
		return proposed, nil
	}
	var items []tftypes.Value
	if err := proposed.As(&items); err != nil {
		return proposed, err
	}
	for index, item := range items {
		planned, err := planBlock(&schema.block, item, isNew)
		if err != nil {
			return proposed, err
		}
		items[index] = planned
	}
	return tftypes.NewValue(proposed.Type(), items), nil
}

func mergeTags(defaults map[string]tftypes.Value, tags tftypes.Value) (tftypes.Value, error) {
	tagsType := tftypes.Map{ElementType: tftypes.String}
	if !tags.IsKnown() {
		return tftypes.NewValue(tagsType, tftypes.UnknownValue), nil
	}
	own := map[string]tftypes.Value{}
	if !tags.IsNull() {
		if err := tags.As(&own); err != nil {
			return tags, err
		}
	}
	merged := map[string]tftypes.Value{}
	for _, source := range []map[string]tftypes.Value{defaults, own} {
		for key, value := range source {
			merged[key] = value
		}
	}
	return tftypes.NewValue(tagsType, merged), nil
}

// readSettings understands AWS's region and default_tags; the other provider has neither.
func readSettings(config tftypes.Value) (settings, error) {
	result := settings{region: os.Getenv("AWS_REGION")}
	values := map[string]tftypes.Value{}
	if err := config.As(&values); err != nil {
		return result, err
	}
	if region, err := textOf(values["region"]); err == nil {
		result.region = region
	}
	if result.region == "" {
		result.region = "us-east-1"
	}
	defaults, ok := values["default_tags"]
	if !ok {
		return result, nil
	}
	var blocks []tftypes.Value
	if err := defaults.As(&blocks); err != nil {
		return result, err
	}
	for _, each := range blocks {
		var tags map[string]tftypes.Value
		if err := each.As(&tags); err != nil {
			return result, err
		}
		if err := tags["tags"].As(&result.defaultTags); err != nil {
			return result, err
		}
	}
	return result, nil
}
