//! TS 23.501 table 5.7.4-1, as published, against the table in the crate.

use qos::{FiveQi, ResourceType};

type Row = (u8, char, u8, u16, u8, Option<u32>);

/// 5QI, resource type (G, N, D), priority level, delay budget in ms, error rate exponent, burst volume in bytes.
/// Transcribed from the standard's table, in its order; 5QI 75 is not used in current releases.
const PUBLISHED: &[Row] = &[
    (1, 'G', 20, 100, 2, None),
    (2, 'G', 40, 150, 3, None),
    (3, 'G', 30, 50, 3, None),
    (4, 'G', 50, 300, 6, None),
    (65, 'G', 7, 75, 2, None),
    (66, 'G', 20, 100, 2, None),
    (67, 'G', 15, 100, 3, None),
    (71, 'G', 56, 150, 6, None),
    (72, 'G', 56, 300, 4, None),
    (73, 'G', 56, 300, 8, None),
    (74, 'G', 56, 500, 8, None),
    (76, 'G', 56, 500, 4, None),
    (5, 'N', 10, 100, 6, None),
    (6, 'N', 60, 300, 6, None),
    (7, 'N', 70, 100, 3, None),
    (8, 'N', 80, 300, 6, None),
    (9, 'N', 90, 300, 6, None),
    (10, 'N', 90, 1100, 6, None),
    (69, 'N', 5, 60, 6, None),
    (70, 'N', 55, 200, 6, None),
    (79, 'N', 65, 50, 2, None),
    (80, 'N', 68, 10, 6, None),
    (82, 'D', 19, 10, 4, Some(255)),
    (83, 'D', 22, 10, 4, Some(1354)),
    (84, 'D', 24, 30, 5, Some(1354)),
    (85, 'D', 21, 5, 5, Some(255)),
    (86, 'D', 18, 5, 4, Some(1354)),
    (87, 'D', 25, 5, 3, Some(500)),
    (88, 'D', 25, 10, 3, Some(1125)),
    (89, 'D', 25, 15, 4, Some(17_000)),
    (90, 'D', 25, 20, 4, Some(63_000)),
];

#[test]
fn every_row_is_as_published() {
    for &(value, resource_type, priority, delay_ms, error_rate, volume) in PUBLISHED {
        let row = FiveQi::standardized(value).unwrap_or_else(|| panic!("5QI {value}"));
        assert_eq!(row.value, value);
        assert_eq!(row.priority_level, priority, "5QI {value}");
        assert_eq!(row.packet_delay_budget_ms, delay_ms, "5QI {value}");
        assert_eq!(row.packet_error_rate.0, error_rate, "5QI {value}");
        let expected = match (resource_type, volume) {
            ('G', None) => ResourceType::Gbr {
                averaging_window_ms: 2000,
            },
            ('N', None) => ResourceType::NonGbr,
            ('D', Some(maximum_data_burst_volume)) => ResourceType::DelayCriticalGbr {
                averaging_window_ms: 2000,
                maximum_data_burst_volume,
            },
            other => panic!("5QI {value}: {other:?}"),
        };
        assert_eq!(row.resource_type, expected, "5QI {value}");
        assert_eq!(row.is_gbr(), resource_type != 'N');
        assert_eq!(row.averaging_window_ms(), (resource_type != 'N').then_some(2000));
    }
}

#[test]
fn there_is_no_other_row_and_the_rows_ascend() {
    assert_eq!(FiveQi::all().len(), PUBLISHED.len());
    assert!(FiveQi::all().is_sorted_by(|a, b| a.value < b.value));
    assert_eq!((0..=255).filter_map(FiveQi::standardized).count(), PUBLISHED.len());
    assert!(FiveQi::standardized(75).is_none());
}

#[test]
fn default_code_points_of_qci_1_to_9_are_those_of_gsma_ir_34() {
    let dscps: Vec<u8> = (1..=9).map(|value| FiveQi::standardized(value).unwrap().dscp).collect();
    assert_eq!(dscps, [46, 46, 46, 34, 26, 28, 18, 10, 0]);
}

#[test]
fn every_default_code_point_is_an_assigned_one() {
    for row in FiveQi::all() {
        assert!([0, 10, 18, 26, 28, 34, 46].contains(&row.dscp), "5QI {}", row.value);
    }
}
