package vici

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Kind is the type of an element of a message.
type Kind byte

// The element types, as they are encoded.
const (
	SectionStart Kind = iota + 1
	SectionEnd
	KeyValue
	ListStart
	ListItem
	ListEnd
)

// A Message is the encoded content of a packet: a tree of sections, which contain
// values, lists of values, and further sections. A message that was received may be
// malformed; the methods report that.
type Message []byte

// An Element is the start or the end of a section or list, a value, or one item of a
// list. Its slices are parts of the message.
type Element struct {
	Kind  Kind
	Depth int    // how many sections the element is in
	Key   []byte // the name of the section, value or list; nil at an end
	Value []byte // of a KeyValue or ListItem
}

// ErrMalformed reports a message that is cut off or violates the format.
var ErrMalformed = errors.New("malformed VICI message")

// Elements iterates over the elements of a message. An error is the last it yields.
func (m Message) Elements() iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		var list []byte // the name of the list that is open
		depth, inList := 0, false
		for at := 0; at < len(m); {
			e := Element{Kind: Kind(m[at]), Depth: depth}
			at++
			ok := inList == (e.Kind == ListItem || e.Kind == ListEnd)
			switch e.Kind {
			case SectionStart:
				e.Key, at = m.name(at)
				depth++
			case SectionEnd:
				depth--
				e.Depth, ok = depth, ok && depth >= 0
			case KeyValue:
				e.Key, at = m.name(at)
				e.Value, at = m.value(at)
			case ListStart:
				e.Key, at = m.name(at)
				list, inList = e.Key, true
			case ListItem:
				e.Key = list
				e.Value, at = m.value(at)
			case ListEnd:
				inList = false
			default:
				ok = false
			}
			if !ok || at > len(m) {
				yield(Element{}, ErrMalformed)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if depth > 0 || inList {
			yield(Element{}, ErrMalformed)
		}
	}
}

// name reads a name, which follows its length of one octet, and returns the position
// after it. If the message ends before the name does, that is beyond the message.
func (m Message) name(at int) (name []byte, end int) {
	if at >= len(m) {
		return nil, len(m) + 1
	}
	start := at + 1
	if end = start + int(m[at]); end > len(m) {
		return nil, end
	}
	return m[start:end:end], end
}

// value reads a value, which follows its length of two octets, and returns the
// position after it, as name does.
func (m Message) value(at int) (value []byte, end int) {
	if at+1 >= len(m) {
		return nil, len(m) + 1
	}
	start := at + 2
	if end = start + int(binary.BigEndian.Uint16(m[at:])); end > len(m) {
		return nil, end
	}
	return m[start:end:end], end
}

// Value returns the value of a top-level key, or "" if there is none.
func (m Message) Value(key string) (string, error) {
	values, err := m.top(KeyValue, key)
	if len(values) == 0 {
		return "", err
	}
	return values[0], nil
}

// List returns the items of a top-level list.
func (m Message) List(key string) ([]string, error) { return m.top(ListItem, key) }

// top returns the values of the top-level elements of a kind and key.
func (m Message) top(kind Kind, key string) ([]string, error) {
	var values []string
	for e, err := range m.Elements() {
		if err != nil {
			return nil, err
		}
		if e.Depth == 0 && e.Kind == kind && string(e.Key) == key {
			values = append(values, string(e.Value))
		}
	}
	return values, nil
}

// A Field is one entry of a message or section to encode.
type Field struct {
	kind   Kind // SectionStart, KeyValue or ListStart
	name   string
	values []string
	fields []Field
}

// Value is a field with one value.
func Value(key, value string) Field { return Field{kind: KeyValue, name: key, values: []string{value}} }

// List is a field with a list of values, which may be empty.
func List(key string, items ...string) Field { return Field{kind: ListStart, name: key, values: items} }

// Section is a field with further fields in it.
func Section(name string, fields ...Field) Field {
	return Field{kind: SectionStart, name: name, fields: fields}
}

// Encode encodes fields as a message. It fails if charon would not accept a name, a
// value or the length of the message.
func Encode(fields ...Field) (Message, error) {
	m, err := Message(nil).append(fields)
	if err == nil && len(m) > maxPacket {
		err = fmt.Errorf("message too long: %d bytes, VICI allows %d", len(m), maxPacket)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// append appends the encoded fields.
func (m Message) append(fields []Field) (_ Message, err error) {
	for _, f := range fields {
		if err := checkName(f.name); err != nil {
			return nil, err
		}
		m = append(m, byte(f.kind), byte(len(f.name)))
		m = append(m, f.name...)
		switch f.kind {
		case SectionStart:
			if m, err = m.append(f.fields); err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
			m = append(m, byte(SectionEnd))
		case KeyValue:
			if m, err = m.appendValue(f.name, f.values[0]); err != nil {
				return nil, err
			}
		case ListStart:
			for _, item := range f.values {
				m = append(m, byte(ListItem))
				if m, err = m.appendValue(f.name, item); err != nil {
					return nil, err
				}
			}
			m = append(m, byte(ListEnd))
		}
	}
	return m, nil
}

func (m Message) appendValue(name, value string) (Message, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("%s: value too long: %d bytes, VICI allows %d", name, len(value), maxValue)
	}
	return append(binary.BigEndian.AppendUint16(m, uint16(len(value))), value...), nil
}
