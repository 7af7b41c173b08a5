package h264_test

import (
	"encoding/hex"
	"fmt"

	"tunnelcast/internal/h264"
)

func ExampleParameterSets_Picture() {
	// From x264: one sequence and one picture parameter set, and the beginning of a key frame.
	record, _ := hex.DecodeString("0142c00dffe10016" + "6742c00dda0507ec0440000003004000000c83c50aa8" +
		"010004" + "68ce0fc8")
	frame, _ := hex.DecodeString("0000000a" + "658884063a2800" + "0a5a30")

	picture, ok := h264.NewParameterSets(record).Picture(frame)
	fmt.Println(ok)
	fmt.Printf("%d x %d\n", picture.Width, picture.Height)
	fmt.Printf("sample aspect ratio %d:%d\n", picture.SARWidth, picture.SARHeight)
	// Output:
	// true
	// 320 x 240
	// sample aspect ratio 1:1
}
