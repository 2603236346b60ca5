//! Great-circle distances, and the check of a flight's reported distance against them.
//!
//! The airline reported `distance_mi`; we compute it again from two airports that came out of two
//! other calls. If a batch ever hands a caller another caller's airport, this is what notices.

use super::data::Airport;

/// Mean radius of the earth in statute miles.
const EARTH_RADIUS_MI: f64 = 3_958.761_3;
/// Most that a computed distance may differ from the reported one, as a share of that. The worst
/// of the 20,000 flights differs by 1.4 %.
const SLACK_SHARE: f64 = 0.02;
/// Most that the two may differ in miles, on long flights too. The worst flight: 7.4 miles.
const SLACK_MI: f64 = 10.0;

/// Returns the great-circle distance between two airports in statute miles.
#[must_use]
pub fn distance_mi(from: &Airport, to: &Airport) -> f64 {
    let (from_lat, to_lat) = (from.latitude.to_radians(), to.latitude.to_radians());
    let half_lat = ((to_lat - from_lat) / 2.0).sin();
    let half_lon = ((to.longitude - from.longitude).to_radians() / 2.0).sin();
    let haversine = half_lat * half_lat + from_lat.cos() * to_lat.cos() * half_lon * half_lon;
    // Rounding can push antipodes a hair beyond one, where the arc sine is not a number.
    2.0 * EARTH_RADIUS_MI * haversine.sqrt().min(1.0).asin()
}

/// Whether a computed distance agrees with the one an airline reported: within 2 % and 10 miles.
#[must_use]
pub fn agrees(computed_mi: f64, reported_mi: u32) -> bool {
    let reported_mi = f64::from(reported_mi);
    let off_mi = (computed_mi - reported_mi).abs();
    off_mi <= SLACK_MI && off_mi <= SLACK_SHARE * reported_mi
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    #[test]
    fn every_shipped_flight_agrees_with_its_two_airports() {
        let tables = fixture::tables();
        for flight in tables.flights() {
            let origin = tables.airport(flight.origin).unwrap();
            let destination = tables.airport(flight.destination).unwrap();
            let computed_mi = distance_mi(origin, destination);
            assert!(agrees(computed_mi, flight.distance_mi), "{flight:?}: {computed_mi}");
        }
    }

    #[test]
    fn most_wrong_airports_are_noticed() {
        let tables = fixture::tables();
        let airports: Vec<_> = tables.airports().collect();
        let flights = &tables.flights()[..500];
        let noticed = flights.iter().enumerate().filter(|(flight_idx, flight)| {
            let origin = tables.airport(flight.origin).unwrap();
            let other = airports[flight_idx * 6 % airports.len()];
            !agrees(distance_mi(origin, other), flight.distance_mi)
        });
        let noticed = noticed.count();
        assert!(noticed > 480, "only {noticed} of 500 wrong destinations were noticed");
    }

    #[test]
    fn a_distance_is_the_same_both_ways_and_zero_at_home() {
        let tables = fixture::tables();
        let [jfk, lax] = ["JFK", "LAX"].map(|code| tables.airport(code.parse().unwrap()).unwrap());
        let there = distance_mi(jfk, lax);
        assert!(agrees(there, 2_475), "{there}");
        assert!((there - distance_mi(lax, jfk)).abs() < 1e-9);
        assert!(distance_mi(jfk, jfk) < 1e-9);
    }

    #[test]
    fn both_slacks_bind() {
        assert!(agrees(102.0, 100));
        assert!(!agrees(102.1, 100), "two per cent of a short flight");
        assert!(agrees(2_010.0, 2_000));
        assert!(!agrees(2_010.1, 2_000), "ten miles of a long flight");
        assert!(!agrees(f64::NAN, 2_000));
    }
}
