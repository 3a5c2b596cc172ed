// Package wire reads as much of HTTP/1.1 as the bench's own programs write, and no more: it is on
// the measuring side, so every microsecond here hides one of the program under test.
package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
)

// Unsized is the length of a message that has no content-length.
const Unsized = -1

// Head is what is needed of a message's head.
type Head struct {
	// First is the request line or status line; it is valid until the next read.
	First   []byte
	Length  int
	Chunked bool
	Close   bool
}

// ReadHead reads up to the empty line that ends a head.
func ReadHead(reader *bufio.Reader, first []byte) (Head, error) {
	head := Head{Length: Unsized}
	line, err := readLine(reader)
	if err != nil {
		return head, err
	}
	// The reader's buffer moves with the next line.
	head.First = append(first[:0], line...)
	for {
		line, err = readLine(reader)
		if err != nil || len(line) == 0 {
			return head, err
		}
		if err = head.readField(line); err != nil {
			return head, err
		}
	}
}

func (head *Head) readField(line []byte) error {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found {
		return fmt.Errorf("a header without a colon: %q", line)
	}
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("content-length")):
		length, err := strconv.Atoi(string(value))
		if err != nil || length < 0 {
			return fmt.Errorf("content-length is %q", value)
		}
		head.Length = length
	case bytes.EqualFold(name, []byte("transfer-encoding")):
		head.Chunked = bytes.EqualFold(value, []byte("chunked"))
	case bytes.EqualFold(name, []byte("connection")):
		head.Close = bytes.EqualFold(value, []byte("close"))
	}
	return nil
}

// ReadChunk returns the next chunk of a chunked body, in buffer where it fits; an empty one is the
// last.
func ReadChunk(reader *bufio.Reader, buffer []byte) ([]byte, error) {
	line, err := readLine(reader)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseUint(string(line), 16, 31)
	if err != nil {
		return nil, fmt.Errorf("chunk size is %q", line)
	}
	buffer, err = ReadSized(reader, int(size), buffer)
	if err != nil {
		return nil, err
	}
	if line, err = readLine(reader); err == nil && len(line) != 0 {
		err = fmt.Errorf("%q after a chunk", line)
	}
	return buffer, err
}

// ReadSized returns the next size bytes, in buffer where they fit.
func ReadSized(reader *bufio.Reader, size int, buffer []byte) ([]byte, error) {
	if cap(buffer) < size {
		buffer = make([]byte, size)
	}
	buffer = buffer[:size]
	for filled := 0; filled < size; {
		count, err := reader.Read(buffer[filled:])
		if err != nil {
			return nil, err
		}
		filled += count
	}
	return buffer, nil
}

func readLine(reader *bufio.Reader) ([]byte, error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
