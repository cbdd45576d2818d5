// Pillow's antialiased bicubic resize of 8-bit RGB in fixed point, exact to the byte, on a part of the result.
#pragma once

#include <cstdint>

namespace pixels {

struct Size {
  int64_t width;
  int64_t height;
};

struct Offset {
  int64_t x;
  int64_t y;
};

// An RGB image lies on a canvas of one colour, the canvas is resized, and a window of the result is wanted. Neither the
// canvas nor the pixels outside the window are ever made.
struct Request {
  const uint8_t* source;   // [image.height][image.width][3]
  Size image;
  Size canvas;             // size before the resize
  Offset place;            // of the image on the canvas
  uint8_t background[3];   // colour of the canvas around the image
  Size resized;            // size of the whole canvas after the resize
  Offset corner;           // of the window within it
  Size window;
  uint8_t* target;         // [window.height][window.width][3]
};

// With `vectors`, vector instructions are used where the processor has them; the bytes are the same.
void resize(const Request& request, bool vectors = true);

}  // namespace pixels
