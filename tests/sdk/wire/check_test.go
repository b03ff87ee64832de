package wire

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func load(t *testing.T) *Table {
	table, err := Load("../../../proto/tests/wire.txt")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// These copy what they append to, as rows share it.
func text(b []byte, number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(slices.Clip(b), number, protowire.BytesType), value)
}

func number(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(slices.Clip(b), field, protowire.VarintType), value)
}

// Each row is right but for the one thing that is complained of.
func TestWhatIsWrongWithBytesIsSaid(t *testing.T) {
	table := load(t)
	selector := text(text(nil, 1, "unix"), 2, "uid:1")
	id := text(text(nil, 1, "example.org"), 2, "/a")
	entry := text(text(text(text(nil, 1, "e"), 2, string(id)), 3, string(id)), 4, string(selector))
	whole := number(entry, 15, 7)
	rows := []struct {
		name, message string
		bytes         []byte
		mask          *Mask
		complaint     string
	}{
		{"right", "Entry", whole, nil, ""},
		{"unknown field", "Entry", number(whole, 17, 1), nil, "unknown field 17"},
		{"another type", "Entry", text(entry, 15, "7"), nil, "wire type 2 and not 0"},
		{"a default", "Entry", number(number(entry, 7, 0), 15, 7), nil, "though it is the default"},
		{"not a bool", "Entry", number(number(entry, 7, 2), 15, 7), nil, "neither true nor false"},
		{"twice", "Entry", number(whole, 15, 8), nil, "twice"},
		{"order", "Entry", number(whole, 7, 1), nil, "higher number"},
		{"missing", "Entry", entry, nil, "created_at is missing"},
		{"nested", "Entry", number(text(text(entry, 4, "\x0a\x01u"), 6, "b"), 15, 7), nil, "selectors.value is missing"},
		{"not UTF-8", "Entry", number(text(entry, 6, "\xff"), 15, 7), nil, "not UTF-8"},
		{"cut short", "Entry", whole[:len(whole)-1], nil, "cut short"},
		{"not masked", "Entry", whole, &Mask{"spire.api.types.Entry", map[string]bool{"selectors": false, "created_at": true}}, "selectors was not asked for"},
		{"masked", "Entry", entry, &Mask{"spire.api.types.Entry", map[string]bool{"created_at": false}}, ""},
		{"another's mask", "Entry", whole, &Mask{"spire.api.types.Agent", map[string]bool{"selectors": false}}, ""},
		{"an enum's value", "PermissionDeniedDetails", number(nil, 1, 6), nil, "which spire.api.types.PermissionDeniedDetails.Reason has not"},
		{"two choices", "FederationRelationship", text(text(text(text(nil, 1, "b"), 2, "https://b"), 3, ""), 4, "\x0a\x01x"), nil, "second choice"},
	}
	for _, row := range rows {
		found := strings.Join(table.Check("spire.api.types."+row.message, row.bytes, row.mask), "; ")
		if (row.complaint == "") != (found == "") || !strings.Contains(found, row.complaint) {
			t.Errorf("%s: expected %q, found %q", row.name, row.complaint, found)
		}
	}
}

func TestAnAnswerNobodyPublishedIsNoAnswer(t *testing.T) {
	if found := load(t).Check("spire.api.types.Unheard", nil, nil); len(found) != 1 {
		t.Error(found)
	}
}

func TestEveryRequiredFieldIsPublished(t *testing.T) {
	table := load(t)
	for message, names := range Required {
		published := map[string]bool{}
		for _, field := range table.Messages[message] {
			published[field.Name], published[field.Oneof] = true, true
		}
		for _, name := range names {
			if !published[name] {
				t.Errorf("%s.%s is not published", message, name)
			}
		}
	}
}

func TestAMapIsCheckedByKeyAndValue(t *testing.T) {
	table := load(t)
	name := "spire.api.agent.delegatedidentity.v1.SubscribeToX509BundlesResponse"
	right := text(nil, 1, string(text(text(nil, 1, "spiffe://b"), 2, "der")))
	wrong := text(nil, 1, string(number(text(nil, 1, "spiffe://b"), 2, 3)))
	if found := table.Check(name, right, nil); len(found) > 0 {
		t.Error(found)
	}
	if found := table.Check(name, wrong, nil); len(found) != 1 {
		t.Error(found)
	}
}
