// Package wire holds bytes against the published wire: proto/tests/wire.txt, the list that is written
// from what SPIRE publishes, and from nobody's generated code.
package wire

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Field is one field of a message, as the list has it.
type Field struct {
	Name     string
	Type     string // a scalar's name, or the full name of a message or an enum
	Repeated bool
	Presence bool   // whether a zero that was set differs from none
	Oneof    string // the name of the choice that it belongs to
	Map      [2]string
}

// Table is the whole list.
type Table struct {
	Messages map[string]map[int]Field
	Enums    map[string]map[int]string
	RPCs     map[string][2]string // the names of request and answer, by path
}

// Load reads the list.
func Load(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	table := &Table{map[string]map[int]Field{}, map[string]map[int]string{}, map[string][2]string{}}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			if err := table.add(line); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	table.addWellKnown()
	return table, nil
}

func (t *Table) add(line string) error {
	switch kind, rest, _ := strings.Cut(line, " "); kind {
	case "rpc":
		path, types, _ := strings.Cut(rest, ": ")
		in, out, found := strings.Cut(types, " -> ")
		if !found {
			return fmt.Errorf("no answer")
		}
		bare := func(name string) string { return strings.TrimPrefix(name, "stream ") }
		t.RPCs[path] = [2]string{bare(in), bare(out)}
		return nil
	case "message":
		t.message(rest)
		return nil
	case "enum":
		name, number, err := numbered(rest)
		if err != nil {
			return err
		}
		message, value := parent(name)
		if t.Enums[message] == nil {
			t.Enums[message] = map[int]string{}
		}
		t.Enums[message][number] = value
		return nil
	}
	left, kind, found := strings.Cut(line, ": ")
	if !found {
		return fmt.Errorf("no type")
	}
	name, number, err := numbered(left)
	if err != nil {
		return err
	}
	message, field := parent(name)
	t.message(message)[number] = parse(field, kind)
	return nil
}

func parse(name, kind string) Field {
	field := Field{Name: name}
	kind, field.Oneof, _ = strings.Cut(kind, " oneof ")
	field.Presence = field.Oneof != ""
	if inner, isMap := strings.CutPrefix(kind, "map<"); isMap {
		key, value, _ := strings.Cut(strings.TrimSuffix(inner, ">"), ", ")
		field.Map, field.Repeated = [2]string{key, value}, true
		return field
	}
	if bare, found := strings.CutPrefix(kind, "repeated "); found {
		kind, field.Repeated = bare, true
	}
	if bare, found := strings.CutPrefix(kind, "optional "); found {
		kind, field.Presence = bare, true
	}
	field.Type = kind
	return field
}

func (t *Table) message(name string) map[int]Field {
	if t.Messages[name] == nil {
		t.Messages[name] = map[int]Field{}
	}
	return t.Messages[name]
}

// Google's own messages, which the list takes as given.
func (t *Table) addWellKnown() {
	for name, kind := range map[string]string{"BoolValue": "bool", "StringValue": "string"} {
		t.message("google.protobuf." + name)[1] = Field{Name: "value", Type: kind}
	}
	t.message("google.protobuf.Empty")
	any := t.message("google.protobuf.Any")
	any[1], any[2] = Field{Name: "type_url", Type: "string"}, Field{Name: "value", Type: "bytes"}
	duration := t.message("google.protobuf.Duration")
	duration[1], duration[2] = Field{Name: "seconds", Type: "int64"}, Field{Name: "nanos", Type: "int32"}
	// Health is Google's, and SPIRE serves it as it is.
	t.message("grpc.health.v1.HealthCheckRequest")[1] = Field{Name: "service", Type: "string"}
	t.message("grpc.health.v1.HealthCheckResponse")[1] =
		Field{Name: "status", Type: "grpc.health.v1.HealthCheckResponse.ServingStatus"}
	t.Enums["grpc.health.v1.HealthCheckResponse.ServingStatus"] =
		map[int]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
}

func numbered(text string) (string, int, error) {
	name, digits, _ := strings.Cut(text, " = ")
	number, err := strconv.Atoi(digits)
	return name, number, err
}

func parent(name string) (string, string) {
	at := strings.LastIndex(name, ".")
	return name[:at], name[at+1:]
}
